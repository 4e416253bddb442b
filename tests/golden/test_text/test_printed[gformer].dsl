# Gradients of gformer.dsl, by tpcgen vjp.

dtype T in bf16, f32

op gformer_vjp(
    Q: T[B, H, N, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    snk: f32[H],
    dO: T[B, H, N, E],
    Hs: int,
    W: int = 256,
) -> dQ: T[B, H, N, D], dK: T[B, H, N, D], dV: T[B, H, N, E], dsnk: f32[H]
    where 0 <= Hs and Hs <= H, W >= 1
{
    index A_b in 0 .. B
    index A_h in 0 .. H
    index A_q in 0 .. N
    index A_d in 0 .. D
    index A_k in 0 .. N
    index A_e in 0 .. E
    index C_b in 0 .. B
    index C_h in 0 .. H
    index C_q in 0 .. N
    index C_d in 0 .. D
    index C_k in 0 .. N
    index C_e in 0 .. E
    A_S[A_b,A_h,A_q,A_k]: f32 = rsqrt(D) * sum[A_d](Q[A_b,A_h,A_q,A_d] * K[A_b,A_h,A_k,A_d])
    A_P[A_b,A_h,A_q,A_k]: f32 = softmax[A_k where A_q - W < A_k and A_k <= A_q sink snk[A_h]](A_S[A_b,A_h,A_q,A_k])
    C_A[C_b,C_h,C_q,C_k]: f32 = sum[C_d]((elu(Q[C_b,C_h,C_q,C_d]) + 1) * (elu(K[C_b,C_h,C_k,C_d]) + 1)) where C_k <= C_q
    C_sum[C_b,C_h,C_q,C_e]: f32 = sum[C_k](T(C_A[C_b,C_h,C_q,C_k]) * V[C_b,C_h,C_k,C_e])
    C_sum_2[C_b,C_h,C_q]: f32 = sum[C_k](C_A[C_b,C_h,C_q,C_k])
    dC[C_b,C_h,C_q,C_e]: f32 = dO[C_b,C_h,C_q,C_e] where C_h >= Hs
    dC_sum_2[C_b,C_h,C_q]:
        f32 = -(sum[C_e](dC[C_b,C_h,C_q,C_e] * C_sum[C_b,C_h,C_q,C_e]) / (C_sum_2[C_b,C_h,C_q] + 1e-06)
        / (C_sum_2[C_b,C_h,C_q] + 1e-06))
    dC_sum[C_b,C_h,C_q,C_e]: f32 = dC[C_b,C_h,C_q,C_e] / (C_sum_2[C_b,C_h,C_q] + 1e-06)
    dC_A[C_b,C_h,C_q,C_k]: f32 = dC_sum_2[C_b,C_h,C_q] + sum[C_e](T(dC_sum[C_b,C_h,C_q,C_e]) * V[C_b,C_h,C_k,C_e])
        where C_k <= C_q
    dA[A_b,A_h,A_q,A_e]: f32 = dO[A_b,A_h,A_q,A_e] where A_h < Hs
    dA_P[A_b,A_h,A_q,A_k]: f32 = sum[A_e](T(dA[A_b,A_h,A_q,A_e]) * V[A_b,A_h,A_k,A_e]) where A_q - W < A_k and A_k
        <= A_q
    A_P_mean[A_b,A_h,A_q]: f32 = sum[A_k](A_P[A_b,A_h,A_q,A_k] * dA_P[A_b,A_h,A_q,A_k])
    A_P_total[A_b,A_h,A_q]: f32 = logsumexp[A_k where A_q - W < A_k and A_k <= A_q sink snk[A_h]](A_S[A_b,A_h,A_q,A_k])
    dA_S[A_b,A_h,A_q,A_k]: f32 = A_P[A_b,A_h,A_q,A_k] * (dA_P[A_b,A_h,A_q,A_k] - A_P_mean[A_b,A_h,A_q])
    dQ[A_b,A_h,A_q,A_d] = exp(min(Q[A_b,A_h,A_q,A_d], 0.0))
        * sum[C_k](dC_A[A_b,A_h,A_q,C_k] * (elu(K[A_b,A_h,C_k,A_d]) + 1)) + rsqrt(D)
        * sum[A_k](T(dA_S[A_b,A_h,A_q,A_k]) * K[A_b,A_h,A_k,A_d])
    dK[A_b,A_h,A_k,A_d] = exp(min(K[A_b,A_h,A_k,A_d], 0.0))
        * sum[C_q](dC_A[A_b,A_h,C_q,A_k] * (elu(Q[A_b,A_h,C_q,A_d]) + 1)) + rsqrt(D)
        * sum[A_q](T(dA_S[A_b,A_h,A_q,A_k]) * Q[A_b,A_h,A_q,A_d])
    dV[A_b,A_h,A_k,A_e] = sum[C_q](T(dC_sum[A_b,A_h,C_q,A_e]) * T(C_A[A_b,A_h,C_q,A_k]))
        + sum[A_q](T(dA[A_b,A_h,A_q,A_e]) * T(A_P[A_b,A_h,A_q,A_k]))
    dsnk[A_h] = -sum[A_b, A_q](exp(snk[A_h] - A_P_total[A_b,A_h,A_q]) * A_P_mean[A_b,A_h,A_q])
}

check odd { B = 1, H = 3, N = 97, D = 40, E = 24, W = 30, Hs = 2 }
