fn d1(x) = x * x
fn d2(x) = d1(d1(d1(d1(x))))
fn d3(x) = d2(d2(d2(d2(x))))

op f(x: f32[N]) -> y: f32[N]
{
    y[i] = d3(x[i])
}
