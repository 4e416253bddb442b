# GFormer's diverse attention: the first Hs heads are windowed, the others linear.
use "window.dsl"
use "linear.dsl"

dtype T in bf16, f32

op gformer(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], snk: f32[H], Hs: int, W: int = 256) -> O: T[B, H, N, E]
    where 0 <= Hs <= H, W >= 1
{
    A = window(Q, K, V, snk, W)
    C = linear(Q, K, V)
    O[b,h,q,e] = A[b,h,q,e] where h < Hs
    O[b,h,q,e] = C[b,h,q,e] where h >= Hs
}

check small { B = 2, H = 4, N = 96, D = 64, E = 64, W = 32, Hs = 2 }
