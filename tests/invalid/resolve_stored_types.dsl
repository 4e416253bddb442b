op f(x: f32[N], n: i32[N]) -> y: i32[N], p: bool[N]
{
    y[i] = x[i] / 2
    p[i] = n[i]
    a[i]: i8 = x[i]
    b[i] = n[i] where i < 1
    b[i] = n[i] < 1 where i >= 1
}
