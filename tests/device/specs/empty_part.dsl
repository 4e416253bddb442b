# The first part of the union has no keys at any size; that said nothing about the blocks of the second.
op empty_part(Q: bf16[B, H, M, D], K: bf16[B, H, N, D], V: bf16[B, H, N, E]) -> O: bf16[B, H, M, E]
    where M <= N
{
    index q in 0 .. M
    index k in 0 .. N
    S[b,h,q,k] = sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k < q - N - M and (k >= q or k < 2)](S[b,h,q,k])
    O[b,h,q,e] = default(sum[k](P[b,h,q,k] * V[b,h,k,e]), 1.0)
}

check odd { B = 1, H = 2, M = 3, N = 128, D = 4, E = 24 }
