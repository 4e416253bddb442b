# A sum beside which the walk over the state has no room, of a product whose first factor is the state.
op state_times_input(x: f32[N, C], dt: f32[N, C], A: f32[C, R], b: f32[N, R]) -> y: f32[N, C]
    where 0 < dt[t,c], A[c,r] < 0
{
    scan t in 0 .. N {
        state S[c,r]: f32 = 0
        S[c,r] := exp(dt[t,c] * A[c,r]) * S[c,r] + x[t,c]
        y[t,c] = sum[r](S[c,r] * b[t,r])
    }
}

check odd { N = 7, C = 65, R = 3 }
check none { N = 0, C = 3, R = 2 }
