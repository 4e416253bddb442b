op chain(X: f32[B, N, D], W: f32[D, E], U: f32[E, F]) -> Y: f32[B, N, F]
{
    A[b,n,e] = gelu(sum[d](X[b,n,d] * W[d,e]))
    m[b,n] = sum[e](A[b,n,e]) / f32(E)
    v[b,n] = sum[e]((A[b,n,e] - m[b,n]) * (A[b,n,e] - m[b,n])) / f32(E)
    Y[b,n,f] = sum[e]((A[b,n,e] - m[b,n]) * rsqrt(v[b,n] + 0.001) * U[e,f])
}

check small { B = 2, N = 7, D = 5, E = 6, F = 3 }
