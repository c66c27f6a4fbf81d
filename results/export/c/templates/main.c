/* Trains on the images that are linked in, and prints the loss. @NAME@_example.c shows how an image is fed. */
#include "@NAME@_example.h"
#include "console.h"

#define EPOCHS 10

static int largest(const float *values, int count)
{
    int best = 0;
    for (int i = 1; i < count; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

int main(void)
{
    @NAME@_init();
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        float total = 0.0f;
        int right = 0;
        for (int n = 0; n < @PREFIX@_EXAMPLES; n++) {
            float loss = 0.0f;
            if (@NAME@_example_step(n, &loss) != @PREFIX@_OK) {
                console_text("the training diverged: take a lower learning rate\n");
                return 1;
            }
            total += loss;
        }
        for (int n = 0; n < @PREFIX@_EXAMPLES; n++) {
            float logits[@PREFIX@_CLASSES];
            @NAME@_example_predict(n, logits);
            right += largest(logits, @PREFIX@_CLASSES) == @NAME@_example_label(n);
        }
        console_text("epoch ");
        console_integer(epoch + 1);
        console_text(": mean loss ");
        console_number(total / (float)@PREFIX@_EXAMPLES);
        console_text(", right ");
        console_integer(right);
        console_text(" of ");
        console_integer(@PREFIX@_EXAMPLES);
        console_text("\n");
    }
    return 0;
}
