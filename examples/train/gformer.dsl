# GFormer's diverse attention: the first Hs heads attend in a window, the others linearly, so that both of Gaudi's
# engines have work at the same time.
use "window.dsl"
use "linear.dsl"

dtype T in bf16, f32

op gformer_causal(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], Hs: int, W: int) -> O: T[B, H, N, E]
    where 0 <= Hs <= H, W >= 1
{
    A = window_causal(Q, K, V, W)
    C = linear_causal(Q, K, V)
    O[b,h,q,e] = A[b,h,q,e] where h < Hs
    O[b,h,q,e] = C[b,h,q,e] where h >= Hs
}

op gformer_both(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], Hs: int, W: int) -> O: T[B, H, N, E]
    where 0 <= Hs <= H, W >= 1
{
    A = window_both(Q, K, V, W)
    C = linear_both(Q, K, V)
    O[b,h,q,e] = A[b,h,q,e] where h < Hs
    O[b,h,q,e] = C[b,h,q,e] where h >= Hs
}

vjp gformer_causal wrt Q, K, V

vjp gformer_both wrt Q, K, V
