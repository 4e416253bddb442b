# BigBird's pattern (Zaheer et al. 2020) over blocks of BS tokens: a block of queries sees itself and its neighbours, the
# first and the last block, and R blocks drawn at random per head; the first and the last block see everything.
dtype T in bf16, f32

op bigbird(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], rand: i32[H, N // BS, R], BS: int = 64)
    -> O: T[B, H, N, E]
    where BS >= 1, N % BS == 0
{
    let last = N // BS - 1
    index i in 0 .. N // BS
    index j in 0 .. N // BS
    seen[h,i,j] = select(abs(i - j) <= 1 or i == 0 or i == last or j == 0 or j == last or any[r](rand[h,i,r] == j), 1.0,
        0.0)
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where seen[h, q // BS, k // BS] > 0](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 1, H = 2, N = 63, D = 40, E = 24, BS = 7, R = 2 }
