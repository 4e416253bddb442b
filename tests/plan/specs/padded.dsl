op padded(Q: bf16[B, H, M, D], K: bf16[B, H, N, D], V: bf16[B, H, N, E], len: i32[B], bias: f32[H, M, N]) -> O: bf16[B, H, M, E], L: f32[B, H, M]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]) + bias[h,q,k]
    P[b,h,q,k] = softmax[k where k < len[b]](S[b,h,q,k])
    L[b,h,q] = default(logsumexp[k where k < len[b]](S[b,h,q,k]), 0.0)
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check small { B = 3, H = 2, M = 5, N = 9, D = 5, E = 4 }
