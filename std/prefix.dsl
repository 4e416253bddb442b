# Prefix language model (Raffel et al. 2020): the first prefix[b] keys of a sequence are visible to every query, what
# comes after them is causal. A prefix of 0 is causal attention, one of N is full attention. `prefix_first`: the first C
# keys of every sequence. What is visible is then known to the compiler, and what lies above it is left out in steps.
dtype T in bf16, f32

op prefix(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], prefix: i32[B]) -> O: T[B, H, N, E]
    where 0 <= prefix[b] <= N
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q or k < prefix[b]](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

op prefix_first(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], C: int = 64) -> O: T[B, H, N, E]
    where C >= 0
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q or k < C](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 2, H = 3, N = 65, D = 40, E = 24, C = 9 }
