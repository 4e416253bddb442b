op f(x: f32[N], s: f32[]) -> y: f32[N]
{
    y[i] = x * s + N[i] + s[i] + z[i] + sqrt + y
}
