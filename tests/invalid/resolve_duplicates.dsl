op f(x: f32[N]) -> y: f32[N]
{
    y[i] = x[i]
}

op f(x: f32[N]) -> y: f32[N]
{
    y[i] = 2 * x[i]
}

fn g(x) = x
fn g(x, y) = x + y

check small { N = 2 }
check small { N = 3 }
check twice { N = 3, N = 4 }

vjp f wrt x
vjp f wrt x
