# Mamba's selective scan (Gu and Dao 2023): each of C channels has a diagonal state of R numbers that decays by
# exp(dt A) and takes in dt B x; there is no matmul in it. The step dt is after its softplus, A is negative, Dx is the
# skip connection.
dtype T in bf16, f32

op mamba1(x: T[B, N, C], dt: f32[B, N, C], A: f32[C, R], Bs: T[B, N, R], Cs: T[B, N, R], Dx: f32[C]) -> y: T[B, N, C]
    where 0 < dt[b,t,c], A[c,r] < 0
{
    scan t in 0 .. N {
        state S[b,c,r]: f32 = 0
        S[b,c,r] := exp(dt[b,t,c] * A[c,r]) * S[b,c,r] + dt[b,t,c] * Bs[b,t,r] * x[b,t,c]
        y[b,t,c] = sum[r](Cs[b,t,r] * S[b,c,r]) + Dx[c] * x[b,t,c]
    }
}

check odd { B = 1, N = 65, C = 70, R = 16 }
