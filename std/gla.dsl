# Gated linear attention (GLA, Yang et al. 2023): an outer-product state whose rows forget at a rate of their own,
# a[b,h,t,d], before token t is added.
dtype T in bf16, f32

op gla(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], a: f32[B, H, N, D]) -> O: T[B, H, N, E]
    where 0 < a[b,h,t,d] <= 1
{
    scan t in 0 .. N {
        state S[b,h,d,e]: f32 = 0
        S[b,h,d,e] := a[b,h,t,d] * S[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]
        O[b,h,t,e] = rsqrt(D) * sum[d](Q[b,h,t,d] * S[b,h,d,e])
    }
}

check odd { B = 1, H = 3, N = 65, D = 24, E = 40 }
