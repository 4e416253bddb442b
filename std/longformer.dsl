# Longformer's pattern (Beltagy et al. 2020): each token sees W tokens to either side, and tokens marked as global see
# everything and are seen by everything. The model projects queries and keys of global tokens anew; here they are as given.
# `longformer`: any token may be marked. `longformer_first`: the first G tokens are global, as in question answering and
# in ETC (Ainslie et al. 2020); what is marked is then known to the compiler, and the square is never computed.
dtype T in bf16, f32

op longformer(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], glob: i32[B, N], W: int = 256) -> O: T[B, H, N, E]
    where W >= 0
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where abs(q - k) <= W or glob[b,k] != 0 or glob[b,q] != 0](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op longformer_first(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], G: int = 64, W: int = 256) -> O: T[B, H, N, E]
    where G >= 0, W >= 0
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where abs(q - k) <= W or k < G or q < G](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 2, H = 2, N = 65, D = 40, E = 24, G = 3, W = 9 }
