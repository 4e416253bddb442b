# Linear attention, written quadratically: reassociation is the compiler's job.
dtype T in bf16, f32

fn phi(x) = elu(x) + 1

op linear(Q: T[B, H, N, D], K: T[B, H, N, D], V: T[B, H, N, E]) -> O: T[B, H, N, E]
{
    A[b,h,q,k] = sum[d](phi(Q[b,h,q,d]) * phi(K[b,h,k,d])) where k <= q
    O[b,h,q,e] = sum[k](A[b,h,q,k] * V[b,h,k,e]) / sum[k](A[b,h,q,k])
}

check small { B = 2, H = 4, N = 96, D = 64, E = 64 }
