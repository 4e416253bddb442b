# Gradients of swin.dsl, by tpcgen vjp.

dtype T in bf16, f32

op swin_vjp(
    Q: T[B, H, N, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    table: f32[(2 * Y - 1) * (2 * X - 1), H],
    dO: T[B, H, N, E],
    Y: int,
    X: int,
) -> dQ: T[B, H, N, D], dK: T[B, H, N, D], dV: T[B, H, N, E], dtable: f32[(2 * Y - 1) * (2 * X - 1), H]
    where Y >= 1, X >= 1, N == Y * X
{
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. N
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    index table_0 in 0 .. (2 * Y - 1) * (2 * X - 1)
    S[b,h,q,k]: f32 = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
        + table[(q // X - k // X + Y - 1) * (2 * X - 1) + q % X - k % X + X - 1, h]
    P[b,h,q,k]: f32 = softmax[k](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b,h,k,e])
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = rsqrt(D) * sum[k](T(dS[b,h,q,k]) * K[b,h,k,d])
    dK[b,h,k,d] = rsqrt(D) * sum[q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dV[b,h,k,e] = sum[q](dO[b,h,q,e] * T(P[b,h,q,k]))
    dtable[table_0,h] = sum[b, q, k where (q // X - k // X + Y - 1) * (2 * X - 1) + q % X - k % X + X - 1
        == table_0](dS[b,h,q,k])
}

op swin_shifted_vjp(
    Q: T[B, H, N, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    table: f32[(2 * Y - 1) * (2 * X - 1), H],
    region: i32[G, N],
    dO: T[B, H, N, E],
    Y: int,
    X: int,
) -> dQ: T[B, H, N, D], dK: T[B, H, N, D], dV: T[B, H, N, E], dtable: f32[(2 * Y - 1) * (2 * X - 1), H]
    where Y >= 1, X >= 1, N == Y * X, G >= 1
{
    index b in 0 .. B
    index h in 0 .. H
    index q in 0 .. N
    index d in 0 .. D
    index k in 0 .. N
    index e in 0 .. E
    index table_0 in 0 .. (2 * Y - 1) * (2 * X - 1)
    S[b,h,q,k]: f32 = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
        + table[(q // X - k // X + Y - 1) * (2 * X - 1) + q % X - k % X + X - 1, h]
    P[b,h,q,k]: f32 = softmax[k where region[b % G, q] == region[b % G, k]](S[b,h,q,k])
    dP[b,h,q,k]: f32 = sum[e](dO[b,h,q,e] * V[b,h,k,e]) where region[b % G, q] == region[b % G, k]
    P_mean[b,h,q]: f32 = sum[k](P[b,h,q,k] * dP[b,h,q,k])
    dS[b,h,q,k]: f32 = P[b,h,q,k] * (dP[b,h,q,k] - P_mean[b,h,q])
    dQ[b,h,q,d] = rsqrt(D) * sum[k](T(dS[b,h,q,k]) * K[b,h,k,d])
    dK[b,h,k,d] = rsqrt(D) * sum[q](T(dS[b,h,q,k]) * Q[b,h,q,d])
    dV[b,h,k,e] = sum[q](dO[b,h,q,e] * T(P[b,h,q,k]))
    dtable[table_0,h] = sum[b, q, k where (q // X - k // X + Y - 1) * (2 * X - 1) + q % X - k % X + X - 1
        == table_0](dS[b,h,q,k])
}

check odd { B = 4, H = 3, N = 35, D = 24, E = 24, Y = 7, X = 5, G = 2 }
