op g(x: f32[N]) -> y: f32[N] { y[i] = x[i] }
op f(x: f32[N]) -> y: f32[N]
{
    let W = N // 2 where N > 3
    a = g(x) where W > 1
    y[i] = a[i] where i < W where i > 0
}
