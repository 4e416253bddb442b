op proj(Q: bf16[B, H, M, D], K: bf16[B, H, N, D], V: bf16[B, H, N, E], W: bf16[H, E, C]) -> Y: bf16[B, M, C]
{
    P[b,h,q,k] = softmax[k](rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]))
    O[b,h,q,e]: bf16 = sum[k](P[b,h,q,k] * V[b,h,k,e])
    Y[b,q,c] = sum[h, e](O[b,h,q,e] * W[h,e,c])
}

check small { B = 2, H = 3, M = 7, N = 9, D = 5, E = 4, C = 6 }
