op masked_scores(Q: f32[B, N, D], K: f32[B, N, D], V: f32[B, N, E], ok: i32[B, N]) -> O: f32[B, N, E], n: f32[B, N]
{
    A[b,q,k] = exp(sum[d](Q[b,q,d] * K[b,k,d])) where k < q
    O[b,q,e] = sum[k](A[b,q,k] * V[b,k,e]) / sum[k](A[b,q,k])
    n[b,q] = default(max[k where ok[b,k] > 0](A[b,q,k]), -1.0)
}

check small { B = 2, N = 9, D = 3, E = 4 }
