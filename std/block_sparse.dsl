# Block-sparse attention (Child et al. 2019): per head, a layout says which blocks of BS by BS scores exist; within them
# attention is causal. A query whose blocks are all off gives 0.
# `block_sparse`: any layout. How many blocks a row has is known when it runs, so that what is computed is the square.
# `block_sparse_few`: at most `most` blocks in a row, of which the list is made on the device; of a row with more the
# first ones count. `block_list`: the lists as given, list[h,i,r] being a block of keys that the queries of block i see,
# each once, -1 for none. Both compute N * most * BS scores: the keys of each row's blocks are gathered.
dtype T in bf16, f32

op block_sparse(
    Q: T[B, H, N, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    layout: i32[H, (N + BS - 1) // BS, (N + BS - 1) // BS],
    BS: int = 64,
) -> O: T[B, H, N, E]
    where BS >= 1
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q and layout[h, q // BS, k // BS] != 0](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op block_sparse_few(
    Q: T[B, H, N, D],
    K: T[B, H, N, D],
    V: T[B, H, N, E],
    layout: i32[H, (N + BS - 1) // BS, (N + BS - 1) // BS],
    most: int = 8,
    BS: int = 64,
) -> O: T[B, H, N, E]
    where BS >= 1, most >= 1
{
    index i in 0 .. (N + BS - 1) // BS
    index c in 0 .. (N + BS - 1) // BS
    index x in 0 .. (N + BS - 1) // BS
    index r in 0 .. most
    upto[h,i,c] = default(sum[x where x <= c and layout[h,i,x] != 0](1), 0)
    list[h,i,r] = default(sum[c where upto[h,i,c] <= r](1), 0)
    O = block_list(Q, K, V, list, BS)
}

op block_list(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], list: i32[H, (N + BS - 1) // BS, R], BS: int = 64)
    -> O: T[B, H, N, E]
    where BS >= 1, -1 <= list[h,i,r] < (N + BS - 1) // BS
{
    index i in 0 .. (N + BS - 1) // BS
    index u in 0 .. BS
    index j in 0 .. R * BS
    key[h,i,j] = list[h, i, j // BS] * BS + j % BS
    S[b,h,i,u,j] = rsqrt(D) * sum[d](Q[b, h, i * BS + u, d] * K[b, h, key[h,i,j], d])
    P[b,h,i,u,j] = softmax[j where 0 <= key[h,i,j] <= i * BS + u and i * BS + u < N](S[b,h,i,u,j])
    A[b,h,i,u,e] = sum[j](P[b,h,i,u,j] * V[b, h, key[h,i,j], e])
    O[b,h,q,e] = A[b, h, q // BS, q % BS, e]
}

check odd { B = 1, H = 3, N = 65, D = 40, E = 24, BS = 16, R = 3, most = 3 }
