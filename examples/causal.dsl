# Causal attention with grouped queries. M queries are the last M of N keys: alignment is written, not assumed.
dtype T in bf16, f32

op causal(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E]) -> O: T[B, H, M, E]
    where M <= N, H % G == 0
{
    let R = H // G # query heads per key head
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b, h // R, k, d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b, h // R, k, e])
}

check small { B = 2, H = 4, G = 2, M = 80, N = 96, D = 64, E = 64 }
check odd { B = 1, H = 3, G = 1, M = 65, N = 129, D = 80, E = 64 }
