# Sequences of any length, packed without padding: sequence c is tokens cu[c] .. cu[c + 1] (FlashAttention's cu_seqlens).
# seq[t] counts the offsets up to t, so that cu[seq[t]] is where the sequence of t ends; tokens after the last offset
# give 0. `varlen` is causal self-attention. In `varlen_cross` queries and keys have offsets of their own, and the
# queries of a sequence are aligned with its last keys.
dtype T in bf16, f32

op varlen(Q: T[N, H, D], K: T[N, H, D], V: T[N, H, E], cu: i32[C]) -> O: T[N, H, E]
    where C >= 1, cu[0] == 0, cu[c] <= cu[c + 1], 0 <= cu[c] <= N
{
    index q in 0 .. N
    index k in 0 .. N
    index t in 0 .. N
    seq[t] = default(sum[c where cu[c] <= t](1), 0)
    S[h,q,k] = rsqrt(D) * sum[d](Q[q,h,d] * K[k,h,d])
    P[h,q,k] = softmax[k where k <= q and seq[k] == seq[q] and seq[q] < C](S[h,q,k])
    O[q,h,e] = sum[k](P[h,q,k] * V[k,h,e])
}

op varlen_cross(Q: T[M, H, D], K: T[N, H, D], V: T[N, H, E], cq: i32[C], ck: i32[C]) -> O: T[M, H, E]
    where C >= 1, cq[0] == 0, ck[0] == 0, cq[c] <= cq[c + 1], ck[c] <= ck[c + 1], 0 <= cq[c] <= M, 0 <= ck[c] <= N
{
    index q in 0 .. M
    index k in 0 .. N
    sq[q] = default(sum[c where cq[c] <= q](1), 0)
    sk[k] = default(sum[c where ck[c] <= k](1), 0)
    S[h,q,k] = rsqrt(D) * sum[d](Q[q,h,d] * K[k,h,d])
    P[h,q,k] = softmax[k where sq[q] < C and sk[k] == sq[q] and k - ck[sk[k]] <= q - cq[sq[q]]](S[h,q,k])
    O[q,h,e] = sum[k](P[h,q,k] * V[k,h,e])
}

check odd { N = 65, M = 33, H = 3, D = 40, E = 24, C = 5 }
