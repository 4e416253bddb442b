op f(x: f32[N, D]) -> y: f32[N]
{
    y[q] = sum[d](x[q, d])
    schedule { tile k 64; chunk q 0; place S mme; place y gpu; place x tpc; tyle q 64; tile q; tile q 64; tile q 32; }
}
