# T5's relative bias (Raffel et al. 2020): a learned number per head and bucket of the distance k - q is added to the
# scores, which T5 does not scale. bucket[j] is the bucket of distance j - (M - 1): the buckets grow with the logarithm
# of the distance, and a table says exactly where they end, which a rounded logarithm would not.
dtype T in bf16, f32

op t5_bias(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], table: f32[R, H], bucket: i32[M + N - 1])
    -> O: T[B, H, M, E]
    where M >= 1, N >= 1, 0 <= bucket[j] < R
{
    S[b,h,q,k] = sum[d](Q[b,h,q,d] * K[b,h,k,d]) + table[bucket[k - q + M - 1], h]
    P[b,h,q,k] = softmax[k](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24, R = 32 }
