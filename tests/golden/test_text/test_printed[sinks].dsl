# Gradients of sinks.dsl, by tpcgen vjp.

dtype T in bf16, f32

op window_sink_vjp(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], snk: f32[H], dO: T[B, H, N, E], W: int = 256)
    -> dQ: T[B, H, N, D], dK: T[B, H, N, D], dV: T[B, H, N, E], dsnk: f32[H]
    where W >= 1
{
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. N
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    S[b,h,q,k]: f32 = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k]: f32 = softmax[k where q - W < k and k <= q sink snk[h]](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b,h,k,e]) where q - W < k and k <= q
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    P_total[b,h,q]: f32 = logsumexp[k where q - W < k and k <= q sink snk[h]](S[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = rsqrt(D) * sum[k](T(dS[b,h,q,k]) * K[b,h,k,d])
    dK[b,h,k,d] = rsqrt(D) * sum[q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dV[b,h,k,e] = sum[q](dO[b,h,q,e] * T(P[b,h,q,k]))
    dsnk[h] = -sum[b, q](exp(snk[h] - P_total[b,h,q]) * P_mean[b,h,q])
}

op streaming_vjp(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], dO: T[B, H, N, E], C: int = 4, W: int = 256)
    -> dQ: T[B, H, N, D], dK: T[B, H, N, D], dV: T[B, H, N, E]
    where C >= 0, W >= 1
{
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. N
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    S[b,h,q,k]: f32 = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k]: f32 = softmax[k where k <= q and (k < C or q - W < k)](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b,h,k,e]) where k <= q and (k < C or q - W < k)
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = rsqrt(D) * sum[k](T(dS[b,h,q,k]) * K[b,h,k,d])
    dK[b,h,k,d] = rsqrt(D) * sum[q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dV[b,h,k,e] = sum[q](dO[b,h,q,e] * T(P[b,h,q,k]))
}

check odd { B = 1, H = 3, N = 97, D = 40, E = 24, C = 3, W = 30 }
