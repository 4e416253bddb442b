# GFormer's diverse attention (Zhang et al. 2024): the first Hs heads attend in a window with a learned sink, the others
# linearly, so that both of Gaudi's engines have work at the same time.
use "sinks.dsl"
use "linear.dsl"

dtype T in bf16, f32

op gformer(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], snk: f32[H], Hs: int, W: int = 256) -> O: T[B, H, N, E]
    where 0 <= Hs <= H, W >= 1
{
    A = window_sink(Q, K, V, snk, W)
    C = linear(Q, K, V)
    O[b,h,q,e] = A[b,h,q,e] where h < Hs
    O[b,h,q,e] = C[b,h,q,e] where h >= Hs
}

check odd { B = 1, H = 3, N = 97, D = 40, E = 24, W = 30, Hs = 2 }
