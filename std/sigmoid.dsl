# Sigmoid attention (Ramapuram et al. 2024): each weight is a sigmoid of its score alone, lowered by log N so that a row
# sums to about one; causal, M queries are the last M of N keys.
dtype T in bf16, f32

op sigmoid_attention(Q: T[B, H, M, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, M, E]
    where M <= N
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d]) - log(N)
    P[b,h,q,k] = sigmoid(S[b,h,q,k]) where k <= q + N - M
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 3, M = 33, N = 65, D = 40, E = 24 }
