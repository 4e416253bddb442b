op transposed_output(Q: bf16[B, H, M, D], K: bf16[B, G, N, D], V: bf16[B, G, N, E]) -> O: bf16[B, M, H, E]
    where H % G == 0
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h // (H // G),k,d])
    P[b,h,q,k] = softmax[k where k <= q](S[b,h,q,k])
    O[b,q,h,e] = sum[k](P[b,h,q,k] * V[b,h // (H // G),k,e])
}

check small { B = 2, H = 6, G = 2, M = 7, N = 9, D = 5, E = 4 }
