# The loop that loads the first state was rotated; its only use of what it loads is to store it in local memory.
op state_from_input(Q: f32[B, N, D], K: f32[B, N, D], S0: f32[B, D, E]) -> O: f32[B, N, E]
{
    scan t in 0 .. N reverse {
        state S[b,d,e]: f32 = S0[b,d,e]
        O[b,t,e] = sum[d](Q[b,t,d] * S[b,d,e])
        S[b,d,e] := S[b,d,e] + K[b,t,d] where t % 3 != 0
    }
}

check odd { B = 2, N = 7, D = 5, E = 33 }
