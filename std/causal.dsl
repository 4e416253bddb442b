# Causal attention. `causal` aligns the last elements: its M queries are the last M of N keys, as in generation with a
# cache. `causal_from` says where the first query stands: at key `start`. With 0 it aligns the first elements (top left),
# with N - M the last ones; a chunk of a long prompt is anything between, and queries before key 0 see nothing.
dtype T in bf16, f32

op causal(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, M, E]
    where M <= N
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op causal_from(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], start: int = 0) -> O: T[B, H, M, E]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q + start](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24 }
check shifted { B = 1, H = 1, M = 7, N = 9, D = 8, E = 8, start = -3 }
