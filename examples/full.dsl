# Full attention: every query sees every key.
dtype T in bf16, f32

op full(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, M, E]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check small { B = 2, H = 4, M = 80, N = 96, D = 64, E = 64 }
check odd { B = 1, H = 3, M = 129, N = 63, D = 80, E = 64 }
