op mqa(Q: bf16[B, H, M, D], K: bf16[B, N, D], V: bf16[B, N, E]) -> O: bf16[B, H, M, E]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,k,d])
    P[b,h,q,k] = softmax[k where k <= q](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,k,e])
}

check small { B = 2, H = 3, M = 7, N = 9, D = 5, E = 4 }
