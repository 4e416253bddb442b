# Packed sequences: several documents lie side by side in one row, and doc[b,t] says which one token t belongs to. A
# query sees the tokens of its own document, up to itself. A negative id is padding: it sees nothing and gives 0.
dtype T in bf16, f32

op document(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E], doc: i32[B, N]) -> O: T[B, H, N, E]
{
    S[b,h,q,k] = rsqrt(D) * sum[d](Q[b,h,q,d] * K[b,h,k,d])
    P[b,h,q,k] = softmax[k where k <= q and doc[b,q] == doc[b,k] and doc[b,q] >= 0](S[b,h,q,k])
    O[b,h,q,e] = sum[k](P[b,h,q,k] * V[b,h,k,e])
}

check odd { B = 2, H = 2, N = 65, D = 40, E = 24 }
