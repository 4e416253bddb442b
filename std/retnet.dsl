# Retention (RetNet, Sun et al. 2023): linear attention that forgets at a constant rate g[h] per head. `retnet` is its
# recurrence, `retnet_parallel` the same as a product of scores and powers of g. Normalisation and gate come after it.
dtype T in bf16, f32

op retnet(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], g: f32[H]) -> O: T[B, H, N, E]
    where 0 < g[h] <= 1
{
    scan t in 0 .. N {
        state S[b,h,d,e]: f32 = 0
        S[b,h,d,e] := g[h] * S[b,h,d,e] + K[b,h,t,d] * V[b,h,t,e]
        O[b,h,t,e] = rsqrt(D) * sum[d](Q[b,h,t,d] * S[b,h,d,e])
    }
}

op retnet_parallel(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], g: f32[H]) -> O: T[B, H, N, E]
    where 0 < g[h] <= 1
{
    A[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]) * exp(log(g[h]) * (q - k)) where k <= q
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, N = 65, D = 24, E = 40 }
