op attend(Q: f32[M, D], K: f32[N, E]) -> S: f32[M, N]
{
    S[q, k] = sum[d](Q[q, d] * K[k, d])
}
