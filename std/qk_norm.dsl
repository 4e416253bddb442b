# QK-norm (Qwen3, OLMo 2): queries and keys are divided by their root mean square and scaled per channel before causal
# attention, so that no score can run away. M queries are the last M of N keys.
dtype T in bf16, f32

op qk_norm(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], gq: f32[D], gk: f32[D], eps: f32 = 1e-6)
    -> O: T[B, H, M, E]
    where M <= N, eps > 0
{
    rq[b,h,q] = rsqrt(sum[d](f32(Q[b,h,q,d]) * f32(Q[b,h,q,d])) / D + eps)
    rk[b,h,k] = rsqrt(sum[d](f32(K[b,h,k,d]) * f32(K[b,h,k,d])) / D + eps)
    Qn[b,h,q,d]: T = Q[b,h,q,d] * rq[b,h,q] * gq[d]
    Kn[b,h,k,d]: T = K[b,h,k,d] * rk[b,h,k] * gk[d]
    S[b,h,q,k] = rsqrt(D) * sum[d](Qn[b,h,q,d] * Kn[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q + N - M](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24 }
