op mix(a: f32[M, N], b: f32[N, 2 * M]) -> c: f32[M]
{
    c[i] = sum[j](a[i, j] * b[j, 0])
}

op f(x: f32[R, C], z: f32[C, R], u: f32[C]) -> y: f32[C]
{
    a = mix(x, x)
    b = mix(x, z)
    c = mix(x, u)
    y = mix(x, x)
}
