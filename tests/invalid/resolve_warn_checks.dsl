op f(x: f32[N]) -> y: f32[N]
{
    y[i] = x[i]
}

op g(x: f32[M]) -> y: f32[M]
{
    y[i] = x[i]
}

check small { N = 2, D = 3 }
