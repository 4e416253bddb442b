# Mamba-2's state space duality (Dao and Gu 2024): the decay exp(dt A) is a scalar per head, so that the state of a head
# is an outer product of its P channels and R numbers, and the scan a linear attention with keys Bs and queries Cs that
# H / G heads share. The step dt is after its softplus, A is negative, Dx is the skip connection.
dtype T in bf16, f32

op mamba2(x: T[B, N, H, P], dt: f32[B, N, H], A: f32[H], Bs: T[B, N, G, R], Cs: T[B, N, G, R], Dx: f32[H])
    -> y: T[B, N, H, P]
    where 0 < dt[b,t,h], A[h] < 0, G >= 1, H % G == 0
{
    let heads = H // G
    scan t in 0 .. N {
        state S[b,h,p,r]: f32 = 0
        S[b,h,p,r] := exp(dt[b,t,h] * A[h]) * S[b,h,p,r] + dt[b,t,h] * x[b,t,h,p] * Bs[b, t, h // heads, r]
        y[b,t,h,p] = sum[r](Cs[b, t, h // heads, r] * S[b,h,p,r]) + Dx[h] * x[b,t,h,p]
    }
}

check odd { B = 1, N = 65, H = 4, G = 2, P = 40, R = 24 }
