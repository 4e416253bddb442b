op f(x: f32[N, D]) -> y: f32[P, D], z: f32[q, D], w: f32[x]
{
    P[i, d] = x[i, d]
    y[q, d] = P[q, d]
    z[q, d] = P[q, d]
    w[q] = P[q, 0]
}
