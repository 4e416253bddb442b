op bshd(Q: bf16[B, M, H, D], K: bf16[B, N, H, D], V: bf16[B, N, H, E]) -> O: bf16[B, M, H, E]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,q,h,d] * K[b,k,h,d])
    P[b,h,q,k] = softmax[k](S[b,h,q,k])
    O[b,q,h,e] = sum[k](P[b,h,q,k] * V[b,k,h,e])
}

check small { B = 2, H = 3, M = 7, N = 9, D = 5, E = 4 }
