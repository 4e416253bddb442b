# Gradients of t5_bias.dsl, by tpcgen vjp.

dtype T in bf16, f32

op t5_bias_vjp(
    Q: T[B, H, M, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    table: f32[R, H],
    bucket: i32[M + N - 1],
    dO: T[B, H, M, E],
) -> dQ: T[B, H, M, D], dK: T[B, H, N, D], dV: T[B, H, N, E], dtable: f32[R, H]
    where M >= 1, N >= 1, 0 <= bucket[j] and bucket[j] < R
{
    index j in 0 .. M + N - 1
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. M
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    index r in 0 .. R
    index bucket_0 in 0 .. M + N - 1
    S[b,h,q,k]: f32 = sum[d](Q[b,h,q,d] * K[b,h,k,d]) + table[bucket[k - q + M - 1], h]
    P[b,h,q,k]: f32 = softmax[k](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b,h,k,e])
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = sum[k](T(dS[b,h,q,k]) * K[b,h,k,d])
    dK[b,h,k,d] = sum[q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dV[b,h,k,e] = sum[q](dO[b,h,q,e] * T(P[b,h,q,k]))
    dtable_bucket[bucket_0,h]:
        f32 = sum[b, k where 0 <= k + M - bucket_0 - 1 and k + M - bucket_0 - 1 < M](dS[b, h, k + M - bucket_0 - 1, k])
    dtable[r,h] = sum[bucket_0 where bucket[bucket_0] == r](dtable_bucket[bucket_0,h])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24, R = 32 }
