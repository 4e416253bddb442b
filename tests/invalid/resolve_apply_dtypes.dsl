dtype T in bf16, f16

op add(a: T[N], b: T[N], s: f32[]) -> c: T[N]
{
    c[i] = a[i] + b[i] * s[]
}

op f(x: f32[N], y: bf16[N], z: f16[N], s: f32[], t: i32[]) -> o: f32[N]
{
    a = add(x, y, s)
    b = add(y, z, s)
    c = add(y, y, t)
    o = add(y, y, s)
}
