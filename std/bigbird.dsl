# BigBird's pattern (Zaheer et al. 2020) over blocks of BS tokens: a block of queries sees itself and its neighbours, the
# first and the last block, and R blocks drawn at random per head; the first and the last block see everything.
# list[h,i,c] are the blocks that block i sees, each once, -1 where an entry is none: their keys are gathered, and the
# square is never computed. The rows of the first and the last block are attention of their own.
dtype T in bf16, f32

op bigbird(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], rand: i32[H, N // BS, R], BS: int = 64)
    -> O: T[B, H, N, E]
    where BS >= 1, N % BS == 0
{
    let last = N // BS - 1
    index q in 0 .. N
    index i in 0 .. N // BS
    index c in 0 .. R + 5
    index x in 0 .. R + 5
    index u in 0 .. BS
    index j in 0 .. (R + 5) * BS
    index f in 0 .. 2
    seen[h,i,c] = select(c == 0, 0, select(c == 1, last, select(c < 5, i + c - 3, rand[h, i, c - 5])))
    list[h,i,c] = select(0 <= seen[h,i,c] and seen[h,i,c] <= last
        and not any[x where x < c](seen[h,i,x] == seen[h,i,c]), seen[h,i,c], -1)
    key[h,i,j] = list[h, i, j // BS] * BS + j % BS
    S[b,h,i,u,j] = rsqrt(D) * sum[d](Q[b, h, i * BS + u, d] * K[b, h, key[h,i,j], d])
    P[b,h,i,u,j] = softmax[j where key[h,i,j] >= 0](S[b,h,i,u,j])
    A[b,h,i,u,e] = sum[j](P[b,h,i,u,j] * V[b, h, key[h,i,j], e])
    S_all[b,h,f,u,k] = rsqrt(D) * sum[d](Q[b, h, f * last * BS + u, d] * K[b,h,k,d])
    P_all[b,h,f,u,k] = softmax[k](S_all[b,h,f,u,k])
    A_all[b,h,f,u,e] = sum[k](P_all[b,h,f,u,k] * V[b,h,k,e])
    O[b,h,q,e] = A[b, h, q // BS, q % BS, e] where BS <= q < last * BS
    O[b,h,q,e] = A_all[b,h,0,q,e] where q < BS
    O[b,h,q,e] = A_all[b, h, 1, q - last * BS, e] where q >= BS and q >= last * BS
}

check odd { B = 1, H = 2, N = 63, D = 40, E = 24, BS = 7, R = 2 }
