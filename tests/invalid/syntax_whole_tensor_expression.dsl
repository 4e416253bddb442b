op f(x: f32[N], y: f32[N]) -> z: f32[N]
{
    a = x + y
    b = 3
    c, d = x
    z[i] = a[i]
}
