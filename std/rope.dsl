# Rotary positions (Su et al. 2021): pairs of channels of queries and keys are turned by an angle that grows with their
# position, given as tables of cosines and sines. `rope` pairs channel d with d + D / 2 (Llama), `rope_pairs` pairs 2 d
# with 2 d + 1 (the paper, GPT-J). M queries are the last M of N keys, and attention is causal.
dtype T in bf16, f32

op rope(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], c: f32[N, D // 2], s: f32[N, D // 2]) -> O: T[B, H, M, E]
    where M <= N, D % 2 == 0
{
    let F = D // 2
    index d in 0 .. D
    Qr[b,h,q,d]: T = Q[b,h,q,d] * c[q + N - M, d] - Q[b, h, q, d + F] * s[q + N - M, d] where d < F
    Qr[b,h,q,d]: T = Q[b,h,q,d] * c[q + N - M, d - F] + Q[b, h, q, d - F] * s[q + N - M, d - F] where d >= F
    Kr[b,h,k,d]: T = K[b,h,k,d] * c[k,d] - K[b, h, k, d + F] * s[k,d] where d < F
    Kr[b,h,k,d]: T = K[b,h,k,d] * c[k, d - F] + K[b, h, k, d - F] * s[k, d - F] where d >= F
    S[b,h,q,k] = rsqrt(D) * sum[d](Qr[b,h,q,d] * Kr[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op rope_pairs(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], c: f32[N, D // 2], s: f32[N, D // 2])
    -> O: T[B, H, M, E]
    where M <= N, D % 2 == 0
{
    index d in 0 .. D
    Qr[b,h,q,d]: T = Q[b,h,q,d] * c[q + N - M, d // 2] - Q[b, h, q, d + 1] * s[q + N - M, d // 2] where d % 2 == 0
    Qr[b,h,q,d]: T = Q[b,h,q,d] * c[q + N - M, d // 2] + Q[b, h, q, d - 1] * s[q + N - M, d // 2] where d % 2 == 1
    Kr[b,h,k,d]: T = K[b,h,k,d] * c[k, d // 2] - K[b, h, k, d + 1] * s[k, d // 2] where d % 2 == 0
    Kr[b,h,k,d]: T = K[b,h,k,d] * c[k, d // 2] + K[b, h, k, d - 1] * s[k, d // 2] where d % 2 == 1
    S[b,h,q,k] = rsqrt(D) * sum[d](Qr[b,h,q,d] * Kr[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24 }
