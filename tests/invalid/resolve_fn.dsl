param gain: f32 = 2
fn same(x, x) = x
fn exp(x) = x
fn free(x) = x * gian + k
fn reads(x) = x + Q[0]
fn reduces(x) = sum[k](x)
fn even(x) = odd(x - 1)
fn odd(x) = even(x - 1)

op f(x: f32[N]) -> y: f32[N]
{
    y[i] = same(x[i], 1) + even(x[i]) + unknown(x[i])
}
