use "window.dsl.missing"

op f(x: f32[N], n: i32[N], W: int = 1) -> y: f32[N]
{
    y[i] = x[n[i]]
}

op count(x: f32[N]) -> y: i32[]
{
    y[] = default(sum[i where x[i] > 0](1), 0)
}

vjp f wrt x, x, n, W, z
vjp g wrt x
vjp count wrt x
