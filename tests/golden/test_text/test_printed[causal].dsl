# Gradients of causal.dsl, by tpcgen vjp.

dtype T in bf16, f32

op causal_vjp(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], dO: T[B, H, M, E])
    -> dQ: T[B, H, M, D], dK: T[B, H, N, D], dV: T[B, H, N, E]
    where M <= N
{
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. M
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    S[b,h,q,k]: f32 = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k]: f32 = softmax[k where k <= q + N - M](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b,h,k,e]) where k <= q + N - M
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = rsqrt(D) * sum[k](T(dS[b,h,q,k]) * K[b,h,k,d])
    dK[b,h,k,d] = rsqrt(D) * sum[q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dV[b,h,k,e] = sum[q](dO[b,h,q,e] * T(P[b,h,q,k]))
}

op causal_from_vjp(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E], dO: T[B, H, M, E], start: int = 0)
    -> dQ: T[B, H, M, D], dK: T[B, H, N, D], dV: T[B, H, N, E]
{
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. M
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    S[b,h,q,k]: f32 = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k]: f32 = softmax[k where k <= q + start](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b,h,k,e]) where k <= q + start
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = rsqrt(D) * sum[k](T(dS[b,h,q,k]) * K[b,h,k,d])
    dK[b,h,k,d] = rsqrt(D) * sum[q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dV[b,h,k,e] = sum[q](dO[b,h,q,e] * T(P[b,h,q,k]))
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24 }

check shifted { B = 1, H = 1, M = 7, N = 9, D = 8, E = 8, start = -3 }
