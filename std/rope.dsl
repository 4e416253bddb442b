# Rotary positions (Su et al. 2021): pairs of channels of queries and keys are turned by an angle that grows with their
# position, given as tables of cosines and sines. `rope` pairs channel d with d + D / 2 (Llama), `rope_pairs` pairs 2 d
# with 2 d + 1 (the paper, GPT-J). M queries are the last M of N keys, and attention is causal.
dtype T in bf16, f32

op rope(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], c: f32[N, D // 2], s: f32[N, D // 2]) -> O: T[B, H, M, E]
    where M <= N, D % 2 == 0, -1 <= c[i,f] <= 1, -1 <= s[i,f] <= 1
{
    let F = D // 2
    index d in 0 .. D
    Qr[b,h,q,d]: T = Q[b,h,q,d] * c[q + N - M, d % F] + select(d < F, -Q[b, h, q, d + F], Q[b, h, q, d - F])
        * s[q + N - M, d % F]
    Kr[b,h,k,d]: T = K[b,h,k,d] * c[k, d % F] + select(d < F, -K[b, h, k, d + F], K[b, h, k, d - F]) * s[k, d % F]
    S[b,h,q,k] = rsqrt(D) * sum[d](Qr[b,h,q,d] * Kr[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op rope_pairs(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], c: f32[N, D // 2], s: f32[N, D // 2])
    -> O: T[B, H, M, E]
    where M <= N, D % 2 == 0, -1 <= c[i,f] <= 1, -1 <= s[i,f] <= 1
{
    index d in 0 .. D
    Qr[b,h,q,d]: T = Q[b,h,q,d] * c[q + N - M, d // 2] + select(d % 2 == 0, -Q[b, h, q, d + 1], Q[b, h, q, d - 1])
        * s[q + N - M, d // 2]
    Kr[b,h,k,d]: T = K[b,h,k,d] * c[k, d // 2] + select(d % 2 == 0, -K[b, h, k, d + 1], K[b, h, k, d - 1])
        * s[k, d // 2]
    S[b,h,q,k] = rsqrt(D) * sum[d](Qr[b,h,q,d] * Kr[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

# Few rows: at logits of 1e5 rotated queries rounded to bf16 may prefer another key, and no check can judge that.
check odd { B = 1, H = 1, M = 5, N = 33, D = 40, E = 24 }
