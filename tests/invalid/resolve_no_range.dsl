op f(x: f32[N]) -> y: f32[]
{
    a[i] = 1
    y[] = sum[j](x[2 * j]) + sum[i](a[i])
}
