# Gradients of gqa.dsl, by tpcgen vjp.

dtype T in bf16, f32

op gqa_vjp(Q: T[B, H, M, D], K: T[B, G, N, D], V: T[B, G, N, E], dO: T[B, H, M, E])
    -> dQ: T[B, H, M, D], dK: T[B, G, N, D], dV: T[B, G, N, E]
    where M <= N, G >= 1, H % G == 0
{
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. M
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    index g in 0 .. G
    index h_r in 0 .. H // G
    index g_2 in 0 .. G
    index h_r_2 in 0 .. H // G
    S[b,h,q,k]: f32 = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b, h // (H // G), k, d])
    P[b,h,q,k]: f32 = softmax[k where k <= q + N - M](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b, h // (H // G), k, e]) where k <= q + N - M
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = rsqrt(D) * sum[k](T(dS[b,h,q,k]) * K[b, h // (H // G), k, d])
    dK_part[b,h,k,d]: f32 = rsqrt(D) * sum[q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dK[b,g,k,d] = sum[h_r where 0 <= g * (H // G) + h_r and g * (H // G) + h_r
        < H](dK_part[b, g * (H // G) + h_r, k, d])
    dV_part[b,h,k,e]: f32 = sum[q](dO[b,h,q,e] * T(P[b,h,q,k]))
    dV[b,g_2,k,e] = sum[h_r_2 where 0 <= g_2 * (H // G) + h_r_2 and g_2 * (H // G) + h_r_2
        < H](dV_part[b, g_2 * (H // G) + h_r_2, k, e])
}

op mqa_vjp(Q: T[B, H, M, D], K: T[B, N, D], V: T[B, N, E], dO: T[B, H, M, E])
    -> dQ: T[B, H, M, D], dK: T[B, N, D], dV: T[B, N, E]
    where M <= N
{
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. M
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    S[b,h,q,k]: f32 = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,k,d])
    P[b,h,q,k]: f32 = softmax[k where k <= q + N - M](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b,k,e]) where k <= q + N - M
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = rsqrt(D) * sum[k](T(dS[b,h,q,k]) * K[b,k,d])
    dK[b,k,d] = rsqrt(D) * sum[h, q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dV[b,k,e] = sum[h, q](dO[b,h,q,e] * T(P[b,h,q,k]))
}

check odd { B = 1, H = 6, G = 2, M = 33, N = 65, D = 40, E = 24 }
