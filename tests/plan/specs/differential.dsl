op differential(Q: bf16[B, H, N, D], R: bf16[B, H, N, D], K: bf16[B, H, N, D], L: bf16[B, H, N, D], V: bf16[B, H, N, E], lam: f32[H]) -> O: bf16[B, H, N, E]
{
    P[b,h,q,k] = softmax[k where k <= q](rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]))
    T[b,h,q,k] = softmax[k where k <= q](rsqrt(D) * sum[d](R[b,h,q,d] * L[b,h,k,d]))
    O[b,h,q,e] = sum[k]((P[b,h,q,k] - lam[h] * T[b,h,q,k]) * V[b,h,k,e])
}

check small { B = 1, H = 2, N = 9, D = 5, E = 4 }
