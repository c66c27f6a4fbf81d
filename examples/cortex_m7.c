/* Trains on the first images that are linked in, then says of each of the others what it takes it for.

   net_example.c has the images and how they are fed row by row, console.c prints. */
#include "console.h"
#include "net_example.h"

#ifndef EPOCHS
#define EPOCHS 3
#endif
#define TRAIN (NET_EXAMPLES / 2)

static int largest(const float *values)
{
    int best = 0;
    for (int i = 1; i < NET_CLASSES; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

int main(void)
{
    net_init();
    for (int epoch = 0; epoch < EPOCHS; epoch++)
        for (int n = 0; n < TRAIN; n++) {
            float loss;
            if (net_example_step(n, &loss) != NET_OK)
                return 1;
            console_text("loss ");
            console_number(loss);
            console_text("\n");
        }
    for (int n = TRAIN; n < NET_EXAMPLES; n++) {
        float logits[NET_CLASSES];
        if (net_example_predict(n, logits) != NET_OK)
            return 1;
        console_text("answer ");
        console_integer(largest(logits));
        console_text("\n");
    }
    return 0;
}
